"""A person talks to models, to one or to two at a time: in the terminal, or on a page beside it."""
