package protos

import (
	"encoding/base64"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

// TestDescriptorWithoutJSONNames reads descriptors as protoc puts them into generated Python: without names in JSON.
func TestDescriptorWithoutJSONNames(t *testing.T) {
	s := mustParse(t, `syntax = "proto2"; package shop; import "google/protobuf/timestamp.proto";
		message Click { optional google.protobuf.Timestamp ts = 1; repeated int32 old_ones = 3 [packed = true, deprecated = true];
		repeated group Result = 9 { required string target_url = 1; optional int32 n = 2; } map<string, int64> labels = 10; extensions 100 to 199; reserved 20 to 29; reserved "gone";
		oneof which { string a = 11; bytes b = 12; } }
		extend Click { optional string more_of_it = 100; optional string less = 101; }
		service Svc { rpc Do(Click) returns (Click); }`)
	fd := protodesc.ToFileDescriptorProto(s.File)
	var strip func(messages []*descriptorpb.DescriptorProto, fields []*descriptorpb.FieldDescriptorProto)
	strip = func(messages []*descriptorpb.DescriptorProto, fields []*descriptorpb.FieldDescriptorProto) {
		for _, f := range fields {
			f.JsonName = nil
		}
		for _, m := range messages {
			strip(m.NestedType, m.Field)
			strip(nil, m.Extension)
		}
	}
	strip(fd.MessageType, fd.Extension)
	raw, err := proto.Marshal(fd)
	if err != nil {
		t.Fatal(err)
	}
	bare := mustParse(t, base64.StdEncoding.EncodeToString(raw))
	if bare.Text() != s.Text() {
		t.Errorf("the text is\n%s\nwant\n%s", bare.Text(), s.Text())
	}
	if got := bare.File.Messages().Get(0).Fields().ByName("old_ones").JSONName(); got != "oldOnes" {
		t.Errorf("old_ones is %s in JSON", got)
	}
}
