// The tagging service of vcsim, which is VMware's own, with a door before it that a test may shut.
//
// vcsim 0.24 serves the older form, /rest, and takes any password there. The door looks at the password, and with
// "tagging api" it STANDS IN for the newer form: it turns /api into /rest and takes the wrapping off, written from the published
// paths; /rest is then not there. "tagging 403" answers everything but logins with that status, "tagging login-401" logins,
// "tagging raw TEXT" answers questions with TEXT, "tagging huge" without end, "tagging open" takes the fault away.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vapi/rest"
	_ "github.com/vmware/govmomi/vapi/simulator"
	"github.com/vmware/govmomi/vapi/tags"
)

const ownAgent = "harness"

type door struct {
	sync.Mutex
	mux   http.Handler
	vapi  http.Handler
	fault string
	calls int
}

func openTagging(server *simulator.Server, service *simulator.Service) *door {
	d := &door{mux: server.Config.Handler, fault: "open"}
	d.vapi, _ = service.ServeMux.Handler(&http.Request{Method: "GET", URL: &url.URL{Path: "/rest/"}})
	server.Config.Handler = d
	return d
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	isRest := strings.HasPrefix(r.URL.Path, "/rest/")
	isApi := strings.HasPrefix(r.URL.Path, "/api/")
	if r.UserAgent() == ownAgent || !(isRest || isApi) {
		d.mux.ServeHTTP(w, r)
		return
	}
	d.Lock()
	fault := d.fault
	isSession := strings.HasSuffix(r.URL.Path, "/session")
	if !isSession {
		d.calls++
	}
	d.Unlock()
	user, password, _ := r.BasicAuth()
	isLogin := isSession && r.Method == "POST"
	switch {
	case isApi != (fault == "api"):
		w.WriteHeader(404)
	case isLogin && (user != "operator" || password != "secret"):
		w.WriteHeader(401)
	case isLogin && strings.HasPrefix(fault, "login-"):
		status, _ := strconv.Atoi(fault[len("login-"):])
		w.WriteHeader(status)
	case !isSession && strings.HasPrefix(fault, "raw "):
		fmt.Fprint(w, fault[len("raw "):])
	case !isSession && fault == "huge":
		for i := 0; i < 80; i++ {
			fmt.Fprint(w, strings.Repeat("x", 1<<20))
		}
	case isApi:
		d.translated(w, r, isLogin)
	default:
		if status, err := strconv.Atoi(fault); err == nil && !isSession {
			w.WriteHeader(status)
			return
		}
		d.mux.ServeHTTP(w, r)
	}
}

func (d *door) translated(w http.ResponseWriter, r *http.Request, isLogin bool) {
	path := "/rest/com/vmware/cis/session"
	if rest := strings.TrimPrefix(r.URL.Path, "/api/cis/tagging/"); rest != r.URL.Path {
		path = "/rest/com/vmware/cis/tagging/" + strings.Replace(rest, "/", "/id:", 1)
	}
	inner := r.Clone(r.Context())
	inner.URL = &url.URL{Path: path}
	if action := r.URL.Query().Get("action"); action != "" {
		inner.URL.RawQuery = "~action=" + action
	}
	recorded := httptest.NewRecorder()
	d.mux.ServeHTTP(recorded, inner)
	var wrapped struct {
		Value json.RawMessage `json:"value"`
	}
	if recorded.Code != 200 || json.NewDecoder(bytes.NewReader(recorded.Body.Bytes())).Decode(&wrapped) != nil {
		w.WriteHeader(recorded.Code)
		return
	}
	if isLogin {
		w.WriteHeader(201)
	}
	w.Write(wrapped.Value)
}

// sessions is the simulator's own table: nothing of the protocol tells who is signed in.
func (d *door) sessions() reflect.Value {
	return reflect.ValueOf(d.vapi).Elem().FieldByName("Session")
}

func (d *door) act(client *govmomi.Client, words []string) (interface{}, error) {
	switch words[0] {
	case "tagging":
		d.Lock()
		d.fault = strings.Join(words[1:], " ")
		d.Unlock()
		return "ok", nil
	case "calls":
		d.Lock()
		defer d.Unlock()
		return d.calls, nil
	case "sessions", "expire":
		lock := d.vapi.(sync.Locker)
		lock.Lock()
		defer lock.Unlock()
		count := d.sessions().Len()
		if words[0] == "expire" {
			for _, key := range d.sessions().MapKeys() {
				d.sessions().SetMapIndex(key, reflect.Value{})
			}
		}
		return count, nil
	case "category", "tag", "untag", "attach", "detach":
		return "ok", tagged(client, words)
	}
	return nil, nil
}

func tagged(client *govmomi.Client, words []string) error {
	session := rest.NewClient(client.Client)
	session.UserAgent = ownAgent
	if err := session.Login(ctx, url.UserPassword("operator", "secret")); err != nil {
		return err
	}
	defer session.Logout(ctx)
	manager := tags.NewManager(session)
	switch words[0] {
	case "category":
		_, err := manager.CreateCategory(ctx, &tags.Category{Name: words[1], Cardinality: "MULTIPLE"})
		return err
	case "tag":
		category, err := manager.GetCategory(ctx, words[1])
		if err != nil {
			return err
		}
		_, err = manager.CreateTag(ctx, &tags.Tag{Name: words[2], CategoryID: category.ID})
		return err
	case "untag":
		tag, err := manager.GetTagForCategory(ctx, words[2], words[1])
		if err != nil {
			return err
		}
		return manager.DeleteTag(ctx, tag)
	}
	finder := find.NewFinder(client.Client)
	dc, err := finder.DefaultDatacenter(ctx)
	if err != nil {
		return err
	}
	vms, err := finder.SetDatacenter(dc).VirtualMachineList(ctx, words[1])
	if err != nil {
		return err
	}
	tag, err := manager.GetTagForCategory(ctx, words[3], words[2])
	if err != nil {
		return err
	}
	for _, vm := range vms {
		if words[0] == "attach" {
			err = manager.AttachTag(ctx, tag.ID, vm.Reference())
		} else {
			err = manager.DetachTag(ctx, tag.ID, vm.Reference())
		}
		if err != nil {
			return err
		}
	}
	return nil
}
