"""Records as tables of text: on a terminal, and as the text of results in Python."""
