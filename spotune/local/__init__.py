"""Embedded mode: the emulator, the deployed template and the SageMaker double on one machine."""
