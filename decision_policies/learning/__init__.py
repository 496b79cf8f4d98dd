"""What every algorithm learns, logs and saves with; the systems themselves are in `algorithms`."""
