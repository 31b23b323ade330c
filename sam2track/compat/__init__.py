"""Other packages' interfaces, as thin layers over this one."""
