"""Files and data sets of any format, row by row, with the defects of what could not be read."""
