"""`pyunion`, the command line over the layer store, in the manner of docker's.

`main` runs a command and sets exit statuses; `framework` and `flags` treat flags, operands
and usage errors as docker does; `commands` has a `*_cmd` module per command, which does
nothing that the store could do.  A command is imported when it is called.

Differs from docker: there is no daemon, so docker's "Error response from daemon: …" reads
"Error: …" here, with the same sentence.  The messages of docker's client itself (usage,
templates, references) are the same as there.
"""
