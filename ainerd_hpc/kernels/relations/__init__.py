"""What goes with what: labels of maps against what was done to the sample, tested with whole scans."""
