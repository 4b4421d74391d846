"""What has nothing to do with learning: files, memory, YAML from anyone, checkpoint files, errors."""
