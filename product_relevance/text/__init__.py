"""One text: cleaned, its language known, its category path split, its pair rendered, its prompt held."""
