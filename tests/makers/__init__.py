"""What tests share: networks, tasks, records. Never imported from a test module."""
