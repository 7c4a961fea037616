"""Where a product, a figure or a page comes from: files, runs, versions, config, model; also as an RO-Crate."""
