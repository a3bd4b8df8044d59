package cluster

import (
	"context"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/mdns"
)

// service is what nodes are found as on their network.
const service = "_wattle._tcp"

var quiet = stdlog.New(io.Discard, "", 0)

// Announce answers those who look for members on this network (multicast DNS) with the address of this node's API, until ctx
// ends. A network on which that does not work only has to be told whom to join.
func Announce(ctx context.Context, id string, api netip.AddrPort) error {
	if stop, err := announce(id, api); err != nil {
		slog.Warn("this node is not found by --discover", "error", err)
	} else {
		defer stop()
	}
	<-ctx.Done()
	return nil
}

func announce(id string, api netip.AddrPort) (stop func(), err error) {
	iface, ips, err := reach(api.Addr())
	if err != nil {
		return nil, err
	}
	s, err := mdns.NewMDNSService(id, service, "", id+".local.", int(api.Port()), ips, []string{"wattle"})
	if err != nil {
		return nil, err
	}
	server, err := mdns.NewServer(&mdns.Config{Zone: s, Iface: iface, Logger: quiet})
	if err != nil {
		return nil, err
	}
	return func() { _ = server.Shutdown() }, nil
}

// reach returns the interface that has an address, and the addresses by which others reach it: all private ones where it is unspecified.
func reach(a netip.Addr) (*net.Interface, []net.IP, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, nil, err
	}
	var ips []net.IP
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, n := range addrs {
			ip, ok := n.(*net.IPNet)
			if !ok {
				continue
			}
			switch {
			case !a.IsUnspecified() && ip.IP.Equal(a.AsSlice()):
				return &i, []net.IP{ip.IP}, nil
			case a.IsUnspecified() && ip.IP.IsPrivate():
				ips = append(ips, ip.IP)
			}
		}
	}
	if len(ips) == 0 {
		return nil, nil, &net.AddrError{Err: "no interface has it", Addr: a.String()}
	}
	return nil, ips, nil
}

// Discover asks the network that an address is on for members, and returns the addresses of their APIs after a while.
func Discover(ctx context.Context, from netip.Addr, wait time.Duration) ([]string, error) {
	iface, _, err := reach(from)
	if err != nil {
		return nil, err
	}
	entries := make(chan *mdns.ServiceEntry, 64)
	err = mdns.QueryContext(ctx, &mdns.QueryParam{
		Service: service, Domain: "local", Timeout: wait, Interface: iface, Entries: entries, DisableIPv6: from.Is4(), Logger: quiet,
	})
	close(entries)
	var found []string
	for e := range entries {
		if e.AddrV4 != nil {
			found = append(found, net.JoinHostPort(e.AddrV4.String(), strconv.Itoa(e.Port)))
		} else if e.AddrV6 != nil {
			found = append(found, net.JoinHostPort(e.AddrV6.String(), strconv.Itoa(e.Port)))
		}
	}
	slices.Sort(found)
	return slices.Compact(found), err
}
