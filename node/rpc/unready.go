package rpc

import (
	"io"
	"net/http"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"

	"github.com/wattlehq/wattle/internal/fault"
)

// Unready is the API of a node that takes no requests yet: in whichever protocol one comes, the answer is why. See Config for hosts.
func Unready(why *fault.Error, hosts []string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(grpchealth.NewHandler(&health{func() bool { return false }}))
	mux.HandleFunc("GET /healthz", alive)
	errs := connect.NewErrorWriter()
	for _, name := range names {
		mux.HandleFunc("/"+name+"/", func(w http.ResponseWriter, r *http.Request) {
			_ = errs.Write(w, r, toConnect(why)) // fails if who asked has gone
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { writeHTTP(w, why) })
	return checkHost(mux, hosts)
}

// alive says that the process lives.
func alive(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") }
