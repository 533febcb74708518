"""The tools over the union and the store: the commands `mount.pyunion` and `pyunion`.

`mount` has the options and the mount(2) itself, `daemon` the process behind a mount,
`container` what runs in one, `build` the steps of a build; `helper` and `cli` are the two
command lines, and `manual` writes their man pages.  Nothing imports the tools.
"""
