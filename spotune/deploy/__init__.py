"""Puts an installation into an AWS account and takes it away again: settings, bundle, stacks. The emulator's too."""
