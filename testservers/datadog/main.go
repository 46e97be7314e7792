// The Datadog agent's own HTTP front with its profiling proxy, and behind it an intake on loopback that writes down what it gets.
//
//	datadog FOLDER [HOST:PORT]
//
// The front listens on a free port of loopback, or where it is told. Prints `ready HOST:PORT` of the front. Each request that the intake gets becomes NUMBER.json (method, path, headers) and
// NUMBER.body in FOLDER, the body first: who sees the one may read the other. Ends when its standard input ends.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"

	pb "github.com/DataDog/datadog-agent/pkg/proto/pbgo/trace"
	"github.com/DataDog/datadog-agent/pkg/trace/api"
	"github.com/DataDog/datadog-agent/pkg/trace/config"
	"github.com/DataDog/datadog-agent/pkg/trace/sampler"
	"github.com/DataDog/datadog-agent/pkg/trace/telemetry"
	"github.com/DataDog/datadog-agent/pkg/trace/timing"
	"github.com/DataDog/datadog-go/v5/statsd"
)

// The intake's path, as in `apm_config.profiling_dd_url`.
const intakePath = "/api/v2/profile"

type noStats struct{}

func (noStats) ProcessStats(context.Context, *pb.ClientStatsPayload, string, string, string, string) error {
	return nil
}

// The intake: keeps what it gets.
type intake struct {
	folder string
	number atomic.Uint64
}

type received struct {
	Method  string              `json:"method"`
	Path    string              `json:"path"`
	Headers map[string][]string `json:"headers"`
}

func (intake *intake) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err == nil {
		err = intake.keep(request, body)
	}
	if err != nil {
		http.Error(answer, err.Error(), http.StatusInternalServerError)
		return
	}
	answer.WriteHeader(http.StatusOK)
}

func (intake *intake) keep(request *http.Request, body []byte) error {
	path := filepath.Join(intake.folder, fmt.Sprintf("%06d", intake.number.Add(1)))
	if err := os.WriteFile(path+".body", body, 0o644); err != nil {
		return err
	}
	text, err := json.Marshal(received{request.Method, request.URL.Path, request.Header})
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".part", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".part", path+".json")
}

func drain[T any](payloads chan T) {
	for range payloads {
	}
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 && len(os.Args) != 3 {
		log.Fatal("usage: datadog FOLDER [HOST:PORT]")
	}
	listen := "127.0.0.1:0"
	if len(os.Args) == 3 {
		listen = os.Args[2]
	}
	behind, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(behind, &intake{folder: os.Args[1]})) }()

	front, err := net.Listen("tcp", listen)
	if err != nil {
		log.Fatal(err)
	}
	settings := config.New()
	settings.Hostname = "front"
	settings.ReceiverHost = "127.0.0.1"
	settings.ReceiverPort = front.Addr().(*net.TCPAddr).Port
	settings.Endpoints[0].APIKey = "test"
	settings.ProfilingProxy.DDURL = "http://" + behind.Addr().String() + intakePath
	settings.StatsdEnabled = false
	settings.TelemetryConfig.Enabled = false
	traces, tracesV1 := make(chan *api.Payload), make(chan *api.PayloadV1)
	go drain(traces)
	go drain(tracesV1)
	noMetrics := &statsd.NoOpClient{}
	receiver := api.NewHTTPReceiver(settings, sampler.NewDynamicConfig(), traces, tracesV1, noStats{},
		telemetry.NewNoopCollector(), noMetrics, timing.New(noMetrics))
	receiver.SetTCPListener(front)
	receiver.Start()
	fmt.Printf("ready %s\n", front.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}
