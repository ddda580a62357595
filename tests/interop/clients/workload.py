"""py-spiffe's Workload API client: prints what the API has as one line of JSON.

    workload.py SOCKET AUDIENCE SUBJECT
"""

import json
import sys

from spiffe import SpiffeId, WorkloadApiClient

socket, audience, subject = sys.argv[1:]


def refused(call):
    try:
        call()
    except Exception as error:  # each kind of refusal is a class of its own
        return str(error)
    return None


with WorkloadApiClient(f"unix://{socket}") as client:
    context = client.fetch_x509_context()
    token = client.fetch_jwt_svid({audience}, SpiffeId(subject))
    jwt_bundles = client.fetch_jwt_bundles()
    domain = SpiffeId(subject).trust_domain
    print(
        json.dumps(
            {
                "ids": sorted(str(svid.spiffe_id) for svid in context.x509_svids),
                "authorities": len(
                    context.x509_bundle_set.get_bundle_for_trust_domain(domain).x509_authorities
                ),
                "keys": len(jwt_bundles.get_bundle_for_trust_domain(domain).jwt_authorities),
                "token": str(token.spiffe_id),
                "validated": str(client.validate_jwt_svid(token.token, audience).spiffe_id),
                "refused": refused(lambda: client.validate_jwt_svid(token.token, "another")),
                "foreign": refused(
                    lambda: client.fetch_jwt_svid({audience}, SpiffeId(f"spiffe://{domain}/not/mine"))
                ),
            }
        ),
        flush=True,
    )
