"""One request's session and its record: loaded, saved against other writers, ended."""
