"""All partitions and Regions that botocore knows: moto has Availability Zones for three partitions only."""

from __future__ import annotations

import re
from functools import cache

import botocore.session
from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend, Zone
from moto.utilities import utils

# The partition of an ARN, as botocore names them.
PATTERN = r"aws(?:-[a-z]+)*"


@cache
def names() -> tuple[str, ...]:
    """Return the partitions, such as `aws` and `aws-eusc`."""
    return tuple(botocore.session.get_session().get_available_partitions())


def in_aws(arn: str) -> str:
    """Return an ARN of IAM or STS as of partition `aws`: the sandbox has one IAM per account, for all partitions."""
    return re.sub(rf"^arn:{PATTERN}:", "arn:aws:", arn)


def install() -> None:
    """moto gap: a Region of aws-iso or aws-eusc has no zones, and so no default subnets; some are taken for partition aws."""
    session = botocore.session.get_session()
    for partition in names():
        for region in session.get_available_regions("rds", partition_name=partition):
            zones = [
                Zone(f"{region}{letter}", region, f"{region}-az{number}") for number, letter in enumerate("abc", 1)
            ]
            RegionsAndZonesBackend.zones.setdefault(region, zones)
            if utils.get_partition(region) != partition:
                utils.REGION_PREFIX_TO_PARTITION[region] = partition
        if partition not in utils.PARTITION_NAMES:
            utils.PARTITION_NAMES.append(partition)
