package main

import (
	"fmt"
	"strings"
)

// Table counts and prints what was compared.
type Table struct {
	counts map[string]int
	// Answers that were to be none of refusal, and were none.
	served map[string]int
}

// row is one comparison.
func (t *Table) row(good bool, call, caller, what, expected, got string) {
	word := "ok"
	if !good {
		word = "FAIL"
	}
	t.say(word, call, caller, what, expected, got)
}

// known is a comparison that is known to fail: one that does not is not known any more.
func (t *Table) known(call, caller, what, expected, got string) {
	word := "known"
	if expected == got {
		word = "FAIL"
	}
	t.say(word, call, caller, what, expected, got)
}

func (t *Table) say(word, call, caller, what, expected, got string) {
	t.counts[call]++
	clean := strings.NewReplacer("\t", " ", "\n", " ")
	fields := []string{word, call, caller, what, expected, got}
	for at := range fields {
		fields[at] = clean.Replace(fields[at])
	}
	fmt.Println(strings.Join(fields, "\t"))
}

// Want is a code with what its text has to say: after "=" all of it, else a part of it.
type Want struct {
	code   uint32
	text   string
	reason string
}

func (w Want) String() string {
	said := fmt.Sprintf("%d %s", w.code, w.text)
	if w.reason != "" {
		said += " [" + w.reason + "]"
	}
	return said
}

func (w Want) met(code uint32, text, reason string) bool {
	whole, exact := strings.CutPrefix(w.text, "=")
	good := strings.Contains(text, w.text)
	if exact {
		good = text == whole
	}
	return good && w.code == code && w.reason == reason
}

// Codes of gRPC.
const (
	OK                 = 0
	InvalidArgument    = 3
	NotFound           = 5
	AlreadyExists      = 6
	PermissionDenied   = 7
	ResourceExhausted  = 8
	FailedPrecondition = 9
	OutOfRange         = 11
	Unimplemented      = 12
	Internal           = 13
)
