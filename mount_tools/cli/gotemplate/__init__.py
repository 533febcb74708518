"""The Go templates of `--format`: syntax, functions, evaluation; knows no command."""
