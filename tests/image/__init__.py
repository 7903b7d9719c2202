"""`make image-test`: the image is built by buildah, entered, and trains. Needs root and, for its base, debootstrap."""
