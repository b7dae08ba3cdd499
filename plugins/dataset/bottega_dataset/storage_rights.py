"""What work in the background may read of object storage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bottega.context import Principal
from bottega.errors import Forbidden, Unauthenticated
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega_dataset.packing import Packed
from bottega_dataset.sample import Problem, SampleRecord


class Rights:
    """What work in the background may read: what both may, who asked for it and the agency that acts for him (003 §9).

    Both, because what a manifest lists is in no request: it was not checked when the work was asked for.
    """

    def __init__(self, platform: Platform, principal: Principal, acting: Principal, project_id: str) -> None:
        self._identity = platform.identity
        self._principal = principal
        self._acting = acting
        self._project_id = project_id

    @classmethod
    async def of(cls, platform: Platform, user_id: str, project_id: str, agency_id: str | None = None) -> Rights:
        """Of who asked for the work; `agency_id`: by which agency they did. Raises Forbidden when the user is gone."""
        try:
            principal = await platform.identity.principal(user_id)
        except Unauthenticated as e:
            raise Forbidden("the user who asked for this does not exist any more") from e
        if agency_id is not None:
            account_id = (await platform.identity.project(project_id)).account_id
            principal = replace(principal, account_id=account_id, is_account_root=False, agency_id=agency_id)
        return cls(platform, principal, await platform.identity.delegate(principal), project_id)

    async def check(self, path: ObjectPath) -> None:
        """Raises Forbidden."""
        reason = await self.reason(path)
        if reason:
            raise Forbidden(reason)

    async def refusal(self, record: SampleRecord) -> str | None:
        """Why a sample's source must not be read; None when it may."""
        if not record.source.startswith("s3://"):
            return None
        bucket, _, key = record.source[5:].partition("/")
        return await self.reason(ObjectPath(bucket, key))

    async def check_read_back(self, file: ObjectPath, sources: Iterable[str], own: ObjectPath) -> None:
        """What the platform reads back from a bucket of the user's may have been written by anybody meanwhile.

        :param file: where it was read; :param own: the folder of the work itself. Raises Forbidden for a source that
        lies elsewhere and must not be read, Invalid for what is no path.
        """
        for source in sources:
            if not source.startswith("s3://") or own.contains(path := ObjectPath.parse(source, str(file))):
                continue
            reason = await self.reason(path)
            if reason:
                raise Forbidden(f"{file} names {source}: {reason}")

    async def refusals(self, found: Packed) -> list[tuple[int, Problem]]:
        """The numbers of those samples whose sources must not be read, and why."""
        closer = {bucket for bucket in found.buckets if not await self._everything_in(bucket)}
        refused: list[tuple[int, Problem]] = []
        for number, source in found.sources() if closer else ():
            bucket, _, key = source[5:].partition("/")
            if source.startswith("s3://") and bucket in closer:
                reason = await self.reason(ObjectPath(bucket, key))
                if reason:
                    refused.append((number, Problem(source, reason)))
        return refused

    async def _everything_in(self, bucket: str) -> bool:
        mine = await self._identity.bucket_account(bucket) == self._principal.account_id
        return mine and self._principal.is_account_root and self._acting == self._principal

    async def reason(self, path: ObjectPath) -> str | None:
        """Why an object must not be read; None when it may."""
        if await self._identity.bucket_account(path.bucket) != self._principal.account_id:
            return f"bucket '{path.bucket}' is not one of yours"
        project = await self._identity.project(self._project_id)
        for who, named in (self._principal, "you"), (self._acting, "the agency that acts for you"):
            if who.is_account_root and who.agency_id is None:
                continue
            context = await self._identity.conditions(who, project, None)
            decision = await self._identity.decide(who, self._project_id, "obs:object:GetObject", path.urn, context)
            if not decision.allowed:
                return f"{named} may not read it: {decision.explain()}"
            if self._acting == self._principal:
                break
        return None
