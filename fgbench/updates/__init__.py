"""Rules by which parameters follow an estimate, one file each."""
