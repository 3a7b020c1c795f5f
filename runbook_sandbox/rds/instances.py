"""DB instances of a cluster: create, describe, modify, reboot, delete. Instances of other engines remain moto's.

moto gaps: all instances share one DbiResourceId, are available at once, accept any class, version and key, and have
no StorageEncryptionType or Performance Insights fields.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult

from runbook_sandbox.instruments import ids
from runbook_sandbox.rds import checks, encryption, engines, placement, quotas
from runbook_sandbox.rds.base import RdsBase, poll_instances
from runbook_sandbox.rds.clusters import insights_key
from runbook_sandbox.rds.describe import describe_instance
from runbook_sandbox.rds.errors import apply_filters, bad_combination, bad_value, page, raise_error
from runbook_sandbox.rds.instance_checks import SET_ON_CLUSTER, check_new_member, promotion_tier
from runbook_sandbox.rds.resources import Cluster, Instance, add_event, plain_tags
from runbook_sandbox.rds.states import transition


class InstanceOperations(RdsBase):
    """CreateDBInstance, DescribeDBInstances, ModifyDBInstance, RebootDBInstance, DeleteDBInstance."""

    def create_db_instance(self) -> ActionResult:
        """moto gap: it accepts any class, version and key."""
        given = self._given
        identifier = checks.identifier(given.get("DBInstanceIdentifier"), "DBInstanceIdentifier")
        engine = engines.known_engine(given.get("Engine"))
        if identifier in self.backend.databases and not self._instance_gone(identifier):
            raise_error("DBInstanceAlreadyExists", "DB instance already exists")
        quotas.require_instance(self)
        if "DBClusterIdentifier" not in given:
            if engine in engines.ENGINES:
                version = engines.find_version(engine, given.get("EngineVersion"))
                checks.one_of(given.get("DBInstanceClass"), engines.classes_of(version), "DBInstanceClass")
                bad_combination(f"A DB instance of {engine} is created in a DB cluster; specify DBClusterIdentifier.")
            return self._create_standalone(given)
        cluster = self._find_cluster(given["DBClusterIdentifier"])
        check_new_member(self, cluster, engine, given)
        return ActionResult({"DBInstance": describe_instance(self._add_member(cluster, identifier, given))})

    def _instance_gone(self, identifier: str) -> bool:
        if isinstance(found := self.backend.databases.get(identifier), Instance):
            poll_instances([found], counts=False)
        return identifier not in self.backend.databases

    def _create_standalone(self, given: dict[str, Any]) -> ActionResult:
        """Check the key, class and version of an instance of another engine, and let moto create it."""
        version, name = str(given.get("EngineVersion", "")), str(given.get("DBInstanceClass", ""))
        if given["Engine"] == "mysql" and version.startswith(("5.1", "5.5", "5.6")):
            bad_combination(f"Cannot find version {version} for mysql")
        if name.startswith(("db.t1.", "db.t2.", "db.m1.", "db.m2.", "db.m3.", "db.r3.")):
            bad_combination(
                "RDS does not support creating a DB instance with the following combination: "
                f"DBInstanceClass={name}, Engine={given['Engine']}, EngineVersion={version}. For supported "
                "combinations of instance class and database engine version, see the documentation."
            )
        if given.get("KmsKeyId"):
            if given.get("StorageEncrypted") is False:
                bad_combination("You can specify KmsKeyId only with StorageEncrypted set to true.")
            self.params["KmsKeyId"] = str(encryption.usable_key(self._caller, given["KmsKeyId"]).arn)
            self.params["StorageEncrypted"] = True
        answer: ActionResult = super().create_db_instance()
        result: Any = answer.result
        database = result["DBInstance"]
        database.dbi_resource_id = "db-" + ids.text_for("rds-instance", self.current_account, 26)
        database.storage_encryption_type = "sse-kms" if database.storage_encrypted else "none"
        if not database.storage_encrypted:
            database.kms_key_id = None
        return answer

    def _add_member(self, cluster: Cluster, identifier: str, given: dict[str, Any]) -> Instance:
        backend, fields = self.backend, cluster.fields
        version = engines.find_version(fields["Engine"], fields["EngineVersion"])
        group = placement.subnet_group(backend, fields["DBSubnetGroup"])
        taken = [one.fields["AvailabilityZone"] for one in cluster.instances]
        name = placement.instance_parameter_group(backend, given.get("DBParameterGroupName"), version)
        public = given.get("PubliclyAccessible")
        window = given.get("PreferredMaintenanceWindow", fields["PreferredMaintenanceWindow"])
        options = f"default:{version.engine}-{version.major.replace('.', '-')}"
        instance = Instance(
            backend, identifier,
            {
                "DBInstanceClass": given["DBInstanceClass"],
                "Engine": fields["Engine"],
                "AvailabilityZone": placement.instance_zone(backend, given.get("AvailabilityZone"), group, taken),
                "PromotionTier": given.get("PromotionTier", 1),
                # AWS's default: public only if the subnet group is the default one.
                "PubliclyAccessible": group.name == placement.DEFAULT if public is None else public,
                "MonitoringInterval": given.get("MonitoringInterval", fields.get("MonitoringInterval") or 0),
                "MonitoringRoleArn": given.get("MonitoringRoleArn", fields.get("MonitoringRoleArn")),
                "AutoMinorVersionUpgrade": given.get("AutoMinorVersionUpgrade", True),
                "CopyTagsToSnapshot": bool(given.get("CopyTagsToSnapshot")),
                "CACertificateIdentifier": given.get("CACertificateIdentifier", "rds-ca-rsa2048-g1"),
                "PreferredMaintenanceWindow": str(window).lower(),
                "DBParameterGroups": [{"DBParameterGroupName": name, "ParameterApplyStatus": "in-sync"}],
                "OptionGroupMemberships": [{"OptionGroupName": options, "Status": "in-sync"}],
                "DatabaseInsightsMode": given.get("DatabaseInsightsMode", fields.get("DatabaseInsightsMode")),
                **self._insights(fields, given),
            },
            cluster.encryption, tags=plain_tags(given.get("Tags")), cluster_id=cluster.identifier,
            resource_id="db-" + ids.text_for("rds-instance", self.current_account, 26),
        )  # fmt: skip
        transition(instance, "creating", "available")
        backend.databases[identifier] = instance  # type: ignore[assignment]
        cluster.members.append(identifier)
        cluster.writer = cluster.writer or identifier
        return instance

    def _insights(self, fields: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        """Return the Performance Insights fields, as requested or else as in the cluster."""
        if "EnablePerformanceInsights" not in given:
            names = ("PerformanceInsightsKMSKeyId", "PerformanceInsightsRetentionPeriod")
            return {"PerformanceInsightsEnabled": bool(fields.get("PerformanceInsightsEnabled"))} | {
                name: fields.get(name) for name in names
            }
        on = bool(given["EnablePerformanceInsights"])
        return {
            "PerformanceInsightsEnabled": on,
            "PerformanceInsightsKMSKeyId": insights_key(self._caller, given),
            "PerformanceInsightsRetentionPeriod": given.get("PerformanceInsightsRetentionPeriod", 7) if on else None,
        }

    def describe_db_instances(self) -> ActionResult:
        """moto gap: no paging or filters, and instances are available before their cluster."""
        given = self._given
        name = given.get("DBInstanceIdentifier")
        if self._is_moto_instance():
            return super().describe_db_instances()
        if name is not None:
            found: list[Any] = [self._find_instance(name, counts=True)]
        else:
            stored: list[Any] = list(self.backend.databases.values())
            poll_instances([one for one in stored if isinstance(one, Instance)], counts=True)
            found = sorted(self.backend.databases.values(), key=lambda one: str(_identifier(one)))
        found = apply_filters(found, given.get("Filters"), {
            "db-cluster-id": lambda one: _cluster_names(one),
            "db-instance-id": lambda one: (_identifier(one), one.arn),
            "dbi-resource-id": lambda one: (getattr(one, "resource_id", ""), getattr(one, "dbi_resource_id", "")),
            "engine": lambda one: (one.fields["Engine"] if isinstance(one, Instance) else one.engine,),
            "domain": lambda one: (),
        })  # fmt: skip
        chosen, marker = page(found, given)
        shown = [describe_instance(one) if isinstance(one, Instance) else one for one in chosen]
        return ActionResult({"DBInstances": shown, "Marker": marker})

    def _is_moto_instance(self) -> bool:
        name = str(self._given.get("DBInstanceIdentifier", ""))
        found = self.backend.databases.get(name.split(":")[-1].lower())
        return found is not None and not isinstance(found, Instance)

    def modify_db_instance(self) -> ActionResult:
        """moto gap: it requires moto's own instance objects."""
        if self._is_moto_instance():
            return super().modify_db_instance()
        given = self._given
        instance = self._find_instance(given.get("DBInstanceIdentifier"))
        cluster = instance.cluster
        if cluster is None:
            raise_error("DBInstanceNotFound", f"DBInstance {instance.identifier} not found.")
        for name in ("MasterUserPassword", "BackupRetentionPeriod", "VpcSecurityGroupIds", "ManageMasterUserPassword"):
            if name in given:
                bad_combination(
                    f"The DB Instance is a member of a DB Cluster. Set {SET_ON_CLUSTER[name]} for the DB Cluster."
                )
        if instance.status != "available":
            raise_error("InvalidDBInstanceState", f"Database instance {instance.identifier} is not in available state.")
        version = engines.find_version(cluster.fields["Engine"], cluster.fields["EngineVersion"])
        if "DBInstanceClass" in given:
            engines.check_class(version, given["DBInstanceClass"])
        promotion_tier(given)
        role = instance.fields["MonitoringRoleArn"] if given.get("MonitoringInterval") else None
        checks.monitoring({"MonitoringRoleArn": role, **given}, self._roles)
        checks.insights(given)
        checks.windows(None, given.get("PreferredMaintenanceWindow"))
        changed: dict[str, Any] = {name: given[name] for name in (
            "DBInstanceClass", "PromotionTier", "PubliclyAccessible", "MonitoringInterval", "MonitoringRoleArn",
            "AutoMinorVersionUpgrade", "CopyTagsToSnapshot", "CACertificateIdentifier", "PreferredMaintenanceWindow",
        ) if name in given}  # fmt: skip
        if "DBParameterGroupName" in given:
            name = placement.instance_parameter_group(self.backend, given["DBParameterGroupName"], version)
            changed["DBParameterGroups"] = [{"DBParameterGroupName": name, "ParameterApplyStatus": "pending-reboot"}]
        if "EnablePerformanceInsights" in given:
            changed |= self._insights(cluster.fields, given)
        if (new := given.get("NewDBInstanceIdentifier")) is not None:
            self._rename_instance(instance, cluster, checks.identifier(new, "NewDBInstanceIdentifier"))
        instance.fields |= changed
        transition(instance, "modifying", "available")
        return ActionResult({"DBInstance": describe_instance(instance)})

    def _rename_instance(self, instance: Instance, cluster: Cluster, new: str) -> None:
        if new in self.backend.databases:
            raise_error("DBInstanceAlreadyExists", "DB instance already exists")
        old = instance.identifier
        del self.backend.databases[old]
        instance.identifier = new
        self.backend.databases[new] = instance  # type: ignore[assignment]
        cluster.members = [new if name == old else name for name in cluster.members]
        cluster.writer = new if cluster.writer == old else cluster.writer

    def reboot_db_instance(self) -> ActionResult:
        """moto gap: nothing happens."""
        if self._is_moto_instance():
            return super().reboot_db_instance()
        instance = self._find_instance(self._given.get("DBInstanceIdentifier"))
        if instance.status != "available":
            raise_error("InvalidDBInstanceState", f"Instance {instance.identifier} is not in available state.")
        if instance.cluster is not None:
            encryption.require_key(instance.cluster)
            if instance.identifier == instance.cluster.writer:  # connections end; who may not connect again stays away
                instance.cluster.fields["clients_cut_off"] = True
        transition(instance, "rebooting", "available")
        add_event(instance, "DB instance restarted", "availability")
        return ActionResult({"DBInstance": describe_instance(instance)})

    def start_db_instance(self) -> ActionResult:
        """moto gap: an instance of a cluster cannot be started by itself on AWS."""
        return self._only_for_the_cluster("start", super().start_db_instance)

    def stop_db_instance(self) -> ActionResult:
        """moto gap: an instance of a cluster cannot be stopped by itself on AWS."""
        return self._only_for_the_cluster("stop", super().stop_db_instance)

    def _only_for_the_cluster(self, verb: str, of_moto: Any) -> ActionResult:
        if self._is_moto_instance():
            answer: ActionResult = of_moto()
            return answer
        instance = self._find_instance(self._given.get("DBInstanceIdentifier"))
        bad_combination(
            f"Aurora instances are not eligible for this operation: {verb} the DB cluster {instance.cluster_id} "
            "instead."
        )

    def delete_db_instance(self) -> ActionResult:
        """moto gap: it is deleted at once."""
        if self._is_moto_instance():
            return super().delete_db_instance()
        given = self._given
        instance = self._find_instance(given.get("DBInstanceIdentifier"))
        if given.get("FinalDBSnapshotIdentifier"):
            bad_combination("FinalDBSnapshotIdentifier can not be specified when deleting a cluster instance.")
        if instance.status == "deleting":
            raise_error("InvalidDBInstanceState", f"Instance {instance.identifier} is already being deleted.")
        transition(instance, "deleting", "")
        return ActionResult({"DBInstance": describe_instance(instance)})

    def create_db_snapshot(self) -> ActionResult:
        """moto gap: it crashes on a member of a cluster."""
        if not self._is_moto_instance():
            self._find_instance(self._given.get("DBInstanceIdentifier"))
            bad_value(
                "The specified instance is a member of a cluster and a snapshot cannot be created directly. Please use "
                "the CreateDBClusterSnapshot API instead."
            )
        return super().create_db_snapshot()


def _identifier(one: Any) -> str:
    return one.identifier if isinstance(one, Instance) else str(one.db_instance_identifier)


def _cluster_names(one: Any) -> tuple[str, ...]:
    if not isinstance(one, Instance):
        return ()
    return (one.cluster_id, one.cluster.arn) if one.cluster is not None else (one.cluster_id,)
