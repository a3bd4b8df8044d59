package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// etcdTrio are three members of etcd in this process, each with its defaults.
type etcdTrio struct {
	dir     string
	members []*embed.Etcd
	leader  *embed.Etcd
	client  *clientv3.Client // of the leader
	key     atomic.Uint64
}

func newEtcdTrio(ctx context.Context) (_ *etcdTrio, err error) {
	t := &etcdTrio{}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if t.dir, err = os.MkdirTemp("", "wattle-bench-etcd-"); err != nil {
		return nil, err
	}
	ports, err := freePorts(6)
	if err != nil {
		return nil, err
	}
	at := func(port int) url.URL {
		return url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	}
	var initial []string
	for i := range 3 {
		peer := at(ports[2*i])
		initial = append(initial, fmt.Sprintf("m%d=%s", i, peer.String()))
	}
	for i := range 3 {
		c := embed.NewConfig()
		c.Name, c.Dir = fmt.Sprint("m", i), filepath.Join(t.dir, fmt.Sprint(i))
		peer, api := at(ports[2*i]), at(ports[2*i+1])
		c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
		c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{api}, []url.URL{api}
		c.InitialCluster = strings.Join(initial, ",")
		c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
		m, err := embed.StartEtcd(c)
		if err != nil {
			return nil, err
		}
		t.members = append(t.members, m)
	}
	for _, m := range t.members {
		select {
		case <-m.Server.ReadyNotify():
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Minute):
			return nil, errors.New("etcd did not get ready")
		}
	}
	for _, m := range t.members {
		if m.Server.MemberID() == m.Server.Leader() {
			t.leader = m
		}
	}
	if t.leader == nil {
		return nil, errors.New("etcd has no leader")
	}
	t.client, err = clientv3.New(clientv3.Config{Endpoints: []string{t.leader.Config().ListenClientUrls[0].String()}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	return t, err
}

func (t *etcdTrio) close() {
	if t.client != nil {
		t.client.Close()
	}
	for _, m := range t.members {
		m.Close()
	}
	os.RemoveAll(t.dir)
}

// put writes 100 bytes by its own client.
func (t *etcdTrio) put(ctx context.Context) error {
	_, err := t.client.Put(ctx, strconv.FormatUint(t.key.Add(1), 10), hundred)
	return err
}

var hundred = string(make([]byte, 100))

// call writes 100 bytes by a call of the leader's own function.
func (t *etcdTrio) call(ctx context.Context) error {
	_, err := t.leader.Server.Put(ctx, &etcdserverpb.PutRequest{Key: strconv.AppendUint(nil, t.key.Add(1), 10), Value: []byte(hundred)})
	return err
}

// freePorts answers ports that nobody listens on now.
func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at the end, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
