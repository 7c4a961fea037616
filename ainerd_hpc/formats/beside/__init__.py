"""Files that go with a scan: metadata, beam monitor, sample log, dark and flat fields."""
