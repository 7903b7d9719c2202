"""What is deployed, as files: the templates. A package, so that an installed Spotune has them."""
