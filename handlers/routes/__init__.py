"""The API's routes, one file a resource. The tenant is in the context under `tenant`."""
