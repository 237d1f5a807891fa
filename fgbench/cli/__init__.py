"""The command line: commands, lists and progress."""
