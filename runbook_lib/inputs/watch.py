"""Inputs of 21: where the messages about the key go."""

from __future__ import annotations

from typing import Self

from pydantic import field_validator, model_validator

from runbook_lib.inputs.base import Inputs, choice, matching


class WatchKeyInputs(Inputs):
    """21_watch_key: the SNS topic, and the key that encrypts its messages."""

    sns_topic_arn: str = choice(
        "SNS topic", "ARN of an existing topic, which is not changed. Empty: a topic of the key's own is created.", ""
    )
    sns_kms_key_id: str = choice(
        "Key of the topic",
        "Key ID or ARN of a customer managed key that CloudWatch and EventBridge may use. Empty: not encrypted with KMS. "
        "Required if the existing topic is encrypted.",
        "",
    )
    send_test_message: bool = choice("Test message", "Publish one message to the topic, to see that it arrives.", True)

    _topic = field_validator("sns_topic_arn")(
        matching(
            r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}",
            "is not the ARN of a standard topic; write e.g. 'arn:aws:sns:eu-west-2:123456789012:security'",
        )
    )
    _key = field_validator("sns_kms_key_id")(
        matching(
            r"(arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/)?(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})",
            "is not a key ID or key ARN; alias/aws/sns is not possible, because CloudWatch cannot publish under it",
        )
    )

    @model_validator(mode="after")
    def _places(self) -> Self:
        topic, key = self.sns_topic_arn.split(":"), self.sns_kms_key_id.split(":")
        if len(topic) > 3 and len(key) > 3 and topic[3] != key[3]:
            raise ValueError(
                f"sns_kms_key_id: {self.sns_kms_key_id} is in another Region than the topic; name the topic's key"
            )
        return self
