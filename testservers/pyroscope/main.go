// A receiver of Pyroscope's push API by Pyroscope's own generated code; profiles are read by google/pprof, which also checks
// them. It keeps what it gets and answers no queries: the server itself is not published as a module.
//
//	pyroscope FOLDER
//
// Prints `ready HOST:PORT`. Each profile becomes NUMBER.json (id, labels, sums) and NUMBER.pprof in FOLDER, the profile first.
// Ends when its standard input ends.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"

	"connectrpc.com/connect"
	"github.com/google/pprof/profile"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
)

type receiver struct {
	folder string
	number atomic.Uint64
}

type received struct {
	ID      string              `json:"id"`
	Labels  map[string]string   `json:"labels"`
	Headers map[string][]string `json:"headers"`
	Types   []string            `json:"types"`
	Sums    []int64             `json:"sums"`
	Samples int                 `json:"samples"`
}

// The rules of Pyroscope's validation that concern every series.
func labelsOf(series *pushv1.RawProfileSeries) (map[string]string, error) {
	labels := map[string]string{}
	for _, pair := range series.Labels {
		if _, there := labels[pair.Name]; there {
			return nil, fmt.Errorf("has duplicate label name %q", pair.Name)
		}
		labels[pair.Name] = pair.Value
	}
	if labels["__name__"] == "" {
		return nil, errors.New("invalid metric name")
	}
	return labels, nil
}

func (receiver *receiver) keep(headers http.Header, labels map[string]string, sample *pushv1.RawSample) error {
	parsed, err := profile.ParseData(sample.RawProfile)
	if err == nil {
		err = parsed.CheckValid()
	}
	if err != nil {
		return err
	}
	seen := received{ID: sample.ID, Labels: labels, Headers: headers, Samples: len(parsed.Sample)}
	for index, kind := range parsed.SampleType {
		seen.Types = append(seen.Types, kind.Type+":"+kind.Unit)
		sum := int64(0)
		for _, sample := range parsed.Sample {
			sum += sample.Value[index]
		}
		seen.Sums = append(seen.Sums, sum)
	}
	path := filepath.Join(receiver.folder, fmt.Sprintf("%06d", receiver.number.Add(1)))
	if err := os.WriteFile(path+".pprof", sample.RawProfile, 0o644); err != nil {
		return err
	}
	text, err := json.Marshal(seen)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".part", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".part", path+".json")
}

func (receiver *receiver) Push(_ context.Context, request *connect.Request[pushv1.PushRequest]) (*connect.Response[pushv1.PushResponse], error) {
	for _, series := range request.Msg.Series {
		labels, err := labelsOf(series)
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
		for _, sample := range series.Samples {
			if err := receiver.keep(request.Header(), labels, sample); err != nil {
				return nil, connect.NewError(connect.CodeUnknown, err)
			}
		}
	}
	return connect.NewResponse(&pushv1.PushResponse{}), nil
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: pyroscope FOLDER")
	}
	mux := http.NewServeMux()
	mux.Handle(pushv1connect.NewPusherServiceHandler(&receiver{folder: os.Args[1]}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(listener, mux)) }()
	fmt.Printf("ready %s\n", listener.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}
