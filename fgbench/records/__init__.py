"""Records of runs, one JSON file each: schema, key, labels, and the folder that holds them."""
