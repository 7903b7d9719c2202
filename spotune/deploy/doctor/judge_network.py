"""Judges the network and the key that training is to run in and under. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from spotune.deploy.doctor.findings import Finding, fail, not_seen, ok, warn
from spotune.deploy.doctor.seen import Key, Network, Seen, Unseen

_CORRECT = "Correct `vpc` in the settings."


def judge_network(region: str, subnets: Sequence[str], groups: Sequence[str], seen: Seen[Network]) -> Finding:
    """Whether training in these subnets, under these security groups, reaches its data."""
    if isinstance(seen, Unseen):
        needed = "ec2:DescribeSubnets, ec2:DescribeSecurityGroups and ec2:DescribeVpcEndpoints"
        return not_seen("VPC", seen, needed)
    known = {one.subnet for one in seen.subnets} | set(seen.groups)
    missing = [name for name in (*subnets, *groups) if name not in known]
    if missing:
        return fail("VPC", f"The account has no {', '.join(missing)} in this region.", _CORRECT)
    vpcs = sorted({one.vpc for one in seen.subnets} | set(seen.groups.values()))
    if len(vpcs) > 1:
        return fail("VPC", f"Subnets and security groups lie in several VPCs: {', '.join(vpcs)}.", _CORRECT)
    zones = sorted({one.zone for one in seen.subnets})
    if "s3" not in seen.endpoints:
        return warn(
            "VPC",
            f"{vpcs[0]} has no endpoint for S3: without one, or a NAT gateway, training waits for its data in vain.",
            f"`aws ec2 create-vpc-endpoint --vpc-id {vpcs[0]} --service-name com.amazonaws.{region}.s3 "
            f"--route-table-ids ... --region {region}`",
        )
    if len(zones) == 1:
        says = f"All subnets lie in {zones[0]}: spot capacity of the other zones is out of reach."
        return warn("VPC", says, "Name a subnet of each zone in the settings.")
    return ok("VPC", f"{len(subnets)} subnets of {vpcs[0]} in {', '.join(zones)}, with an endpoint for S3.")


def judge_key(arn: str, seen: Seen[Key]) -> Finding:
    """Whether the KMS key encrypts."""
    if isinstance(seen, Unseen):
        if seen.code == "NotFoundException":
            return fail("key", f"There is no key {arn} in this region.", "Correct `kms_key_arn` in the settings.")
        return not_seen("key", seen, "kms:DescribeKey")
    if seen.state != "Enabled":
        command = f"`aws kms enable-key --key-id {arn}`, or `cancel-key-deletion` first"
        return fail("key", f"{arn} is {seen.state}: nothing that it encrypts can be read or written.", command)
    if seen.rotates is False:
        return warn("key", f"{arn} is not rotated.", f"`aws kms enable-key-rotation --key-id {arn}`")
    return ok("key", f"{arn} is enabled.")
