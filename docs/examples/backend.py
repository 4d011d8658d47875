"""A backend that gives an application of a customer an API key.

KEYMARK_TOKEN=kmt_… python backend.py cus_42 "Billing of Acme"
"""

import os
import sys

from gql import Client, gql
from gql.transport.exceptions import TransportQueryError
from gql.transport.requests import RequestsHTTPTransport

token = os.environ.get("KEYMARK_TOKEN")
if not token or len(sys.argv) != 3:
    print("usage: KEYMARK_TOKEN=kmt_… [KEYMARK_URL=…] python backend.py EXTERNAL_ID NAME", file=sys.stderr)
    sys.exit(2)
external_id, name = sys.argv[1:]
url = os.environ.get("KEYMARK_URL", "http://127.0.0.1:8080/graphql")
headers = {"authorization": f"Bearer {token}"}
keymark = Client(transport=RequestsHTTPTransport(url, headers=headers))

create = gql("mutation ($name: String!) { createSystem(name: $name) { system { id } } }")
identify = gql("""mutation ($id: ID!, $externalId: String) {
  setExternalId(systemId: $id, externalId: $externalId) { system { externalId } }
}""")
generate = gql("mutation ($id: ID!) { generateKey(systemId: $id) { apiKey } }")
try:
    system = keymark.execute(create, {"name": name})["createSystem"]["system"]
    keymark.execute(identify, {"id": system["id"], "externalId": external_id})
    # Last and alone: if another field of its request failed, the error would replace the key.
    generated = keymark.execute(generate, {"id": system["id"]})
    print(generated["generateKey"]["apiKey"])  # It is shown once: hand it over, and keep it nowhere.
except TransportQueryError as error:
    sys.exit("\n".join(f"{e['extensions']['code']}: {e['message']}" for e in error.errors))
