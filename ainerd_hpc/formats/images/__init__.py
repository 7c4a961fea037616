"""Series of images in files of their own: EDF, CBF, TIFF."""
