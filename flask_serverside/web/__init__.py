"""What the browser has of a session: an id, and the cookie or header that carries it."""
