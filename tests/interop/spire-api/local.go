package main

import (
	"io/fs"
	"strconv"
)

func modeOf(told fs.FileInfo) string {
	return strconv.FormatInt(int64(told.Mode().Perm()), 8)
}

// local asks what only administrators of this host may: Debug, Logger and Health (§1, §11).
func local(s *Site) {
	c := s.local
	info := c.ok("Debug/GetInfo", "what the server says of itself", J{})
	info.is("own ID", "/spire/server", "svid_chain", 0, "id", "path")
	info.is("own subject", "O=SPIRE,C=US", "svid_chain", 0, "subject")
	info.is("federated bundles", 0, "federated_bundles_count")
	info.same("an end", true, at(info.body, "svid_chain", 0, "expires_at") != "0")
	counted := c.ok("Agent/CountAgents", "all", J{})
	info.is("agents", at(counted.body, "count"), "agents_count")
	counted = c.ok("Entry/CountEntries", "all", J{})
	info.is("entries", at(counted.body, "count"), "entries_count")

	levels(c, "Logger")

	c.ok("Health/Check", "the whole", J{}).is("state", "SERVING", "status")
	c.no("Health/Check", "a part", J{"service": "spire.api.server.entry.v1.Entry"}, InvalidArgument, "")
	c.no("Health/Watch", "to be told of changes", J{}, Unimplemented, "")
	c.no("Health/List", "all parts", J{}, Unimplemented, "")
}

// levels are those of a log: of the server's, and of the agent's.
func levels(c *Client, service string) {
	get, set, reset := service+"/GetLogger", service+"/SetLogLevel", service+"/ResetLogLevel"
	c.ok(get, "levels", J{}).is("level at the start", "INFO", "launch_level").is("level now", "INFO", "current_level")
	c.ok(set, "another level", J{"new_level": "DEBUG"}).
		is("level now", "DEBUG", "current_level").is("level at the start", "INFO", "launch_level")
	c.ok(get, "after a change", J{}).is("level now", "DEBUG", "current_level")
	c.no(set, "no level", J{}, InvalidArgument,
		"=Invalid request NewLevel value cannot be LogLevel_UNSPECIFIED")
	c.no(set, "a number that is no level", J{"new_level": 99}, InvalidArgument, "")
	c.ok(reset, "back", J{}).is("level now", "INFO", "current_level")
}
