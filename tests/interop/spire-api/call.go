package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

const patience = 40 * time.Second

// Client is one caller with its connection.
type Client struct {
	site *Site
	name string
	conn *grpc.ClientConn
	// Sent with each call.
	headers []string
}

// Reply is what was answered.
type Reply struct {
	client *Client
	call   string
	code   uint32
	text   string
	// That of PermissionDeniedDetails.
	reason string
	body   J
}

// ask calls, and waits for the first answer only.
func (c *Client) ask(call string, request J) *Reply {
	stream := c.open(call)
	defer stream.cancel()
	stream.send(request)
	check(stream.raw.CloseSend())
	return stream.next()
}

// ok calls, and expects an answer.
func (c *Client) ok(call, what string, request J) *Reply {
	return c.ask(call, request).want(what, Want{code: OK, text: "="})
}

// no calls, and expects a refusal.
func (c *Client) no(call, what string, request J, code uint32, text string) *Reply {
	return c.ask(call, request).want(what, Want{code: code, text: text})
}

func (r *Reply) want(what string, want Want) *Reply {
	got := Want{r.code, r.text, r.reason}
	if want.code == OK && r.code == OK {
		r.client.site.served[r.call]++
	}
	r.client.site.row(want.met(r.code, r.text, r.reason), r.call, r.client.name, what, want.String(), got.String())
	return r
}

// is compares a part of the answer.
func (r *Reply) is(what string, want any, path ...any) *Reply {
	return r.same(what, want, at(r.body, path...))
}

// has compares the length of a list in the answer.
func (r *Reply) has(what string, want int, path ...any) *Reply {
	return r.same(what, want, len(list(r.body, path...)))
}

// same compares what was made of the answer.
func (r *Reply) same(what string, want, got any) *Reply {
	expected, there := fmt.Sprint(want), fmt.Sprint(got)
	r.client.site.row(expected == there, r.call, r.client.name, what, expected, there)
	return r
}

// item compares one result of a batch: its status is there whether it went well or not, and an object
// is there if it did. In most batches it is called by `object`; empty for none.
func (r *Reply) item(what string, place int, object string, want Want) *Reply {
	got := Want{code: 99, text: "no status"}
	if there, _ := at(r.body, "results", place, "status").(J); there != nil {
		got = Want{code: uint32(there["code"].(float64)), text: there["message"].(string)}
	}
	if want.code == OK {
		want.text = "=OK"
	}
	good := want.met(got.code, got.text, "")
	expected, said := want.String(), got.String()
	if object != "" {
		there := at(r.body, "results", place, object) != nil
		good = good && there == (want.code == OK)
		said += fmt.Sprintf(", object: %t", there)
		expected += fmt.Sprintf(", object: %t", want.code == OK)
	}
	r.client.site.row(good, r.call, r.client.name, what, expected, said)
	return r
}

// Stream is a call that goes on.
type Stream struct {
	client *Client
	call   string
	method protoreflect.MethodDescriptor
	raw    grpc.ClientStream
	cancel context.CancelFunc
}

func (c *Client) open(call string) *Stream {
	method := c.site.schema.method(call)
	return c.openAt(path(method), method)
}

func (c *Client) openAt(path string, method protoreflect.MethodDescriptor) *Stream {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	ctx = metadata.AppendToOutgoingContext(ctx, c.headers...)
	kind := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	raw, err := c.conn.NewStream(ctx, kind, path)
	check(err)
	return &Stream{c, path[1:], method, raw, cancel}
}

// send may find the call ended: next says how.
func (s *Stream) send(request J) {
	err := s.raw.SendMsg(message(s.method.Input(), request))
	if err != nil && !errors.Is(err, io.EOF) {
		check(err)
	}
}

// next is the next answer, or how the call has ended.
func (s *Stream) next() *Reply {
	reply := &Reply{client: s.client, call: s.call, body: J{}}
	answer := dynamicpb.NewMessage(s.method.Output())
	err := s.raw.RecvMsg(answer)
	switch {
	case errors.Is(err, io.EOF):
		reply.text = "end"
	case err != nil:
		said := status.Convert(err)
		reply.code, reply.text = uint32(said.Code()), said.Message()
		reply.reason = s.client.site.schema.reason(said)
	default:
		reply.body = s.client.site.schema.tree(answer)
	}
	return reply
}

// reason reads the details of a denial.
func (s *Schema) reason(said *status.Status) string {
	details := said.Proto().GetDetails()
	if len(details) == 0 {
		return ""
	}
	const name = "spire.api.types.PermissionDeniedDetails"
	if len(details) > 1 || details[0].GetTypeUrl() != "type.googleapis.com/"+name {
		return "unknown details"
	}
	read := dynamicpb.NewMessage(s.messages[name])
	check(proto.Unmarshal(details[0].GetValue(), read))
	return fmt.Sprint(s.tree(read)["reason"])
}
