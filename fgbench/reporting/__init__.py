"""Tables, figures, pages and sites from records. No module here imports torch."""
