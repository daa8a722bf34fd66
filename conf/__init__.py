"""The configuration files, shipped inside the package as `sae.conf`."""
