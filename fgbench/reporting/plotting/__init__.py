"""Style, panels and curves that figures share."""
