"""The Go templates of `--format`: syntax, functions, evaluation.  Independent of the commands."""
