"""What comes out: the adapter or the weights first, complete and compared; then what was asked for beside them."""
