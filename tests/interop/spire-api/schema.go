package main

import (
	"context"
	"encoding/json"
	"io/fs"
	"log"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	health "google.golang.org/grpc/health/grpc_health_v1"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// J and L are messages and lists as they are written here.
type (
	J = map[string]any
	L = []any
)

// Schema has what the .proto files define, with gRPC's own services.
type Schema struct {
	services map[string]protoreflect.ServiceDescriptor
	messages map[protoreflect.FullName]protoreflect.MessageDescriptor
	// For what is inside of an Any.
	types *dynamicpb.Types
}

// Short names of services that have the same last name as another.
var short = map[string]string{
	"AgentDebug":  "spire.agent.debug.v1.Debug",
	"AgentLogger": "spire.api.agent.logger.v1.Logger",
	"Debug":       "spire.api.server.debug.v1.Debug",
	"Logger":      "spire.api.server.logger.v1.Logger",
}

func load(folder string) *Schema {
	var files []string
	check(filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".proto") {
			name, failed := filepath.Rel(folder, path)
			check(failed)
			files = append(files, name)
		}
		return err
	}))
	resolver := &protocompile.SourceResolver{ImportPaths: []string{folder}}
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(resolver)}
	compiled, err := compiler.Compile(context.Background(), files...)
	check(err)
	registered := new(protoregistry.Files)
	all := []protoreflect.FileDescriptor{
		health.File_grpc_health_v1_health_proto,
		reflection.File_grpc_reflection_v1_reflection_proto,
	}
	for _, file := range compiled {
		all = append(all, file)
		check(registered.RegisterFile(file))
	}
	schema := &Schema{
		services: map[string]protoreflect.ServiceDescriptor{},
		messages: map[protoreflect.FullName]protoreflect.MessageDescriptor{},
		types:    dynamicpb.NewTypes(registered),
	}
	for _, file := range all {
		for at := range file.Services().Len() {
			service := file.Services().Get(at)
			schema.services[string(service.FullName())] = service
			schema.services[string(service.Name())] = service
		}
		for at := range file.Messages().Len() {
			message := file.Messages().Get(at)
			schema.messages[message.FullName()] = message
		}
	}
	for name, full := range short {
		schema.services[name] = schema.services[full]
	}
	return schema
}

// method finds a call by `Service/Call`.
func (s *Schema) method(name string) protoreflect.MethodDescriptor {
	service, call, _ := strings.Cut(name, "/")
	found, known := s.services[service]
	if !known {
		log.Panicf("no service %s", service)
	}
	method := found.Methods().ByName(protoreflect.Name(call))
	if method == nil {
		log.Panicf("no call %s", name)
	}
	return method
}

// path is what a call is on the wire.
func path(method protoreflect.MethodDescriptor) string {
	return "/" + string(method.Parent().FullName()) + "/" + string(method.Name())
}

// message makes what is written as J; bytes are written as []byte.
func message(kind protoreflect.MessageDescriptor, written J) *dynamicpb.Message {
	text, err := json.Marshal(written)
	check(err)
	made := dynamicpb.NewMessage(kind)
	check(protojson.Unmarshal(text, made))
	return made
}

// tree is a message as J, everything in it, nil for a message that is not there.
func (s *Schema) tree(of proto.Message) J {
	options := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true, Resolver: s.types}
	text, err := options.Marshal(of)
	check(err)
	read := J{}
	check(json.Unmarshal(text, &read))
	return read
}

// at goes down by names and places; nil where there is nothing.
func at(from any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			inside, _ := from.(J)
			from = inside[step]
		case int:
			inside, _ := from.(L)
			if step >= len(inside) {
				return nil
			}
			from = inside[step]
		}
	}
	return from
}

// list is that at a path.
func list(from any, path ...any) L {
	found, _ := at(from, path...).(L)
	return found
}
