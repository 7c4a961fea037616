"""The groups of an archive and how far they can be trusted: latents in, labels, places and figures out."""
