//! `rtrace lsp`: a language server on standard input and output, for editors.
//!
//! It checks what is typed with the same stages that run scripts, against this machine or a
//! recorded one (`--host`). It runs nothing and needs no privileges.

mod answers;
mod text;

use std::collections::HashMap;

use lsp_server::{Connection, ErrorCode, Message, Notification, Request, Response};
use lsp_types::notification::{
    DidChangeTextDocument, DidCloseTextDocument, DidOpenTextDocument, Notification as _,
    PublishDiagnostics,
};
use lsp_types::request::{Completion, Formatting, GotoDefinition, HoverRequest, Request as _};
use lsp_types::{
    CompletionOptions, HoverProviderCapability, OneOf, PublishDiagnosticsParams,
    ServerCapabilities, TextDocumentSyncCapability, TextDocumentSyncKind, Uri,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Failed, Outcome, fail, machine};
use crate::cli::Lsp;
use crate::host::Host;

use answers::Document;

/// What is open in the editor.
struct Server {
    host: Host,
    open: HashMap<Uri, String>,
}

/// Serves an editor until it says goodbye.
pub(super) fn serve(lsp: &Lsp) -> Outcome {
    let host = match &lsp.host {
        Some(dir) => Host::at(dir),
        None => machine::seen(),
    };
    let (connection, threads) = Connection::stdio();
    let capabilities = ServerCapabilities {
        text_document_sync: Some(TextDocumentSyncCapability::Kind(TextDocumentSyncKind::FULL)),
        completion_provider: Some(CompletionOptions {
            trigger_characters: Some(["$", "@", ".", ":", ">"].map(str::to_owned).to_vec()),
            ..CompletionOptions::default()
        }),
        hover_provider: Some(HoverProviderCapability::Simple(true)),
        definition_provider: Some(OneOf::Left(true)),
        document_formatting_provider: Some(OneOf::Left(true)),
        ..ServerCapabilities::default()
    };
    let capabilities =
        serde_json::to_value(capabilities).expect("bug: capabilities are plain data");
    connection.initialize(capabilities).map_err(|e| fail(format!("the editor says: {e}")))?;
    let mut server = Server { host, open: HashMap::new() };
    for message in &connection.receiver {
        let answers = match message {
            Message::Request(request) => {
                if connection.handle_shutdown(&request).unwrap_or(true) {
                    break;
                }
                vec![Message::Response(server.answer(request))]
            }
            Message::Notification(note) => server.notice(note),
            Message::Response(_) => vec![],
        };
        for answer in answers {
            // The editor is gone.
            connection.sender.send(answer).map_err(|_| Failed(0))?;
        }
    }
    drop(connection);
    threads.join().map_err(|e| fail(format!("the connection to the editor broke: {e}")))?;
    Ok(0)
}

impl Server {
    fn answer(&self, request: Request) -> Response {
        let id = request.id.clone();
        let result = match request.method.as_str() {
            Completion::METHOD => self.about::<Completion>(request, |server, params| {
                let place = params.text_document_position;
                let document = server.document(&place.text_document.uri)?;
                Some(document.completions(place.position).into())
            }),
            HoverRequest::METHOD => self.about::<HoverRequest>(request, |server, params| {
                let place = params.text_document_position_params;
                server.document(&place.text_document.uri)?.hover(place.position)
            }),
            GotoDefinition::METHOD => self.about::<GotoDefinition>(request, |server, params| {
                let place = params.text_document_position_params;
                let uri = place.text_document.uri;
                let found = server.document(&uri)?.definition(place.position)?;
                Some(lsp_types::Location { uri, range: found }.into())
            }),
            Formatting::METHOD => self.about::<Formatting>(request, |server, params| {
                server.document(&params.text_document.uri)?.formatted()
            }),
            method => {
                let message = format!("`{method}` is not known here");
                return Response::new_err(id, ErrorCode::MethodNotFound as i32, message);
            }
        };
        match result {
            Ok(value) => Response::new_ok(id, value),
            Err(why) => Response::new_err(id, ErrorCode::InvalidParams as i32, why),
        }
    }

    fn about<R: lsp_types::request::Request>(
        &self,
        request: Request,
        answer: impl FnOnce(&Server, R::Params) -> R::Result,
    ) -> Result<serde_json::Value, String>
    where
        R::Params: DeserializeOwned,
        R::Result: Serialize,
    {
        let params = serde_json::from_value(request.params).map_err(|e| e.to_string())?;
        serde_json::to_value(answer(self, params)).map_err(|e| e.to_string())
    }

    fn notice(&mut self, note: Notification) -> Vec<Message> {
        match note.method.as_str() {
            DidOpenTextDocument::METHOD => {
                let Ok(params) =
                    serde_json::from_value::<lsp_types::DidOpenTextDocumentParams>(note.params)
                else {
                    return vec![];
                };
                let document = params.text_document;
                self.open.insert(document.uri.clone(), document.text);
                self.diagnostics(document.uri)
            }
            DidChangeTextDocument::METHOD => {
                let Ok(mut params) =
                    serde_json::from_value::<lsp_types::DidChangeTextDocumentParams>(note.params)
                else {
                    return vec![];
                };
                // Whole texts were asked for; the last one is the newest.
                let Some(change) = params.content_changes.pop() else { return vec![] };
                let uri = params.text_document.uri;
                self.open.insert(uri.clone(), change.text);
                self.diagnostics(uri)
            }
            DidCloseTextDocument::METHOD => {
                let Ok(params) =
                    serde_json::from_value::<lsp_types::DidCloseTextDocumentParams>(note.params)
                else {
                    return vec![];
                };
                let uri = params.text_document.uri;
                self.open.remove(&uri);
                vec![published(uri, vec![])]
            }
            _ => vec![],
        }
    }

    fn document(&self, uri: &Uri) -> Option<Document<'_>> {
        let text = self.open.get(uri)?;
        Some(Document::new(&self.host, text::path(uri), text))
    }

    fn diagnostics(&self, uri: Uri) -> Vec<Message> {
        let Some(document) = self.document(&uri) else { return vec![] };
        let list = document.diagnostics(&uri);
        vec![published(uri, list)]
    }
}

fn published(uri: Uri, diagnostics: Vec<lsp_types::Diagnostic>) -> Message {
    let params = PublishDiagnosticsParams { uri, diagnostics, version: None };
    Message::Notification(Notification::new(PublishDiagnostics::METHOD.to_owned(), params))
}
