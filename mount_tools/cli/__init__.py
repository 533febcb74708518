"""`pyunion`, the command line over the layer store, in the manner of docker's.

`main` runs it and owns exit statuses; `words` is what docker decides about flags,
operands and usage errors; one `*_cmd` module per command holds nothing that the
store could do itself.  Commands are imported when they are called, and only then.

Differs from docker: there is no daemon, so what docker prints as "Error response
from daemon: …" or "Error: …" reads "Error: …" here, the sentence being the same; what
docker's client says by itself (usage, templates, references) is printed as it is there.
"""
