"""A run around Lightning's trainer: its folder, callbacks, tracking, options, ranks and how it ends."""
