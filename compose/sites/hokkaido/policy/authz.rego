package sekisho.authz

default allow := false

# Of the sites that send to us, only their senders.
allow if {
	input.sekisho.direction == "inbound"
	input.sekisho.client.path_segments == ["sender"]
}

allow if {
	input.sekisho.endpoint == "to-tokyo"
	input.sekisho.upstream.spiffe_id == "spiffe://tokyo.example/mdx"
}
