"""The page: everything that an archive has to say, in one file that opens anywhere."""
