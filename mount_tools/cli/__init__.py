"""`pyunion`, the command line of the layer store; it works as docker's does.

`main` runs a command and sets exit statuses; `framework` and `flags` treat flags, operands
and usage errors as docker does; `commands` has a `*_cmd` module per command, which leaves
all work on the store to `layerstore`.  A command is imported when it is called.

Differs from docker: there is no daemon, so docker's "Error response from daemon: …" reads
"Error: …" here, with the same sentence.  The messages of docker's client itself (usage,
templates, references) are the same as there.
"""
