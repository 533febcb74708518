"""The process behind a mount: detaching, serving, supervision, logging, shutdown."""
