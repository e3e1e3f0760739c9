"""Every request and question from outside: the one function that carries it out."""
