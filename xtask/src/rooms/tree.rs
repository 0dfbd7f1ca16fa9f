//! The crate's modules, as they are written: what each declares, imports and mentions.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{
    Arm, Attribute, Block, Expr, Field, FieldValue, ForeignItem, ImplItem, Item, ItemMacro, ItemMod, ItemUse, Lit,
    Meta, Stmt, Token, TraitItem, UseTree, Variant, VisRestricted, Visibility,
};

use super::{FIRST_PAGE, Sources};

/// The crate's root among the modules.
pub(super) const ROOT: usize = 0;

/// The modules that are not tests, and their files.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: Vec<String>,
    pub(super) modules: Vec<Module>,
    /// The first page's lines, numbered.
    pub(super) first_page: Vec<(usize, String)>,
}

/// One module: a file's, or an inline one.
#[derive(Debug, Default)]
pub(super) struct Module {
    pub(super) file: usize,
    pub(super) parent: Option<usize>,
    pub(super) children: BTreeMap<String, usize>,
    pub(super) items: BTreeSet<String>,
    /// Those of the items that are macros.
    pub(super) macros: BTreeSet<String>,
    /// The path that each imported name stands for.
    pub(super) imports: BTreeMap<String, Vec<String>>,
    pub(super) globs: Vec<Vec<String>>,
    pub(super) mentions: Vec<Mention>,
    /// Whether it is more than documentation.
    pub(super) has_code: bool,
    /// Where its child modules' files are.
    folder: String,
}

/// A path that stands in a module.
#[derive(Debug)]
pub(super) struct Mention {
    pub(super) line: usize,
    pub(super) path: Vec<String>,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A private `use`.
    Import,
    /// A private `use` of all of a module.
    Glob,
    /// A `use` that re-exports, one name or all. The arrows are of who uses the names; only a room that re-exports from above
    /// is wrong by that alone.
    Reexport,
    Code,
    /// The name of a macro that is called.
    Macro,
}

impl Tree {
    /// Reads every module, from the first page on.
    pub(super) fn read(sources: &Sources) -> Result<Self> {
        let mut reader = Reader { sources, tree: Self::default(), at: ROOT, is_in_body: false, failure: None };
        let module = Module { folder: "src".to_owned(), ..Module::default() };
        reader.file(FIRST_PAGE.to_owned(), module)?;
        reader.failure.map_or(Ok(reader.tree), Err)
    }
}

struct Reader<'s> {
    sources: &'s Sources,
    tree: Tree,
    /// The module that is being read.
    at: usize,
    /// Whether what is being read stands in a function's body, where it declares nothing for others.
    is_in_body: bool,
    failure: Option<anyhow::Error>,
}

impl Reader<'_> {
    fn file(&mut self, path: String, module: Module) -> Result<()> {
        let text = self.sources.get(&path).with_context(|| format!("{path} is not there"))?;
        let file = syn::parse_file(text).map_err(|error| {
            let line = error.span().start().line;
            anyhow::Error::new(error).context(format!("{path}:{line}: cannot parse"))
        })?;
        if is_test(&file.attrs) {
            return Ok(());
        }
        if path == FIRST_PAGE {
            self.tree.first_page = doc_lines(&file.attrs);
        }
        self.tree.files.push(path);
        self.module(Module { file: self.tree.files.len() - 1, ..module }, &file.items);
        Ok(())
    }

    fn module(&mut self, module: Module, items: &[Item]) {
        let around = self.at;
        self.at = self.tree.modules.len();
        self.tree.modules.push(Module { has_code: !items.is_empty(), ..module });
        for item in items {
            self.visit_item(item);
        }
        self.at = around;
    }

    fn here(&mut self) -> &mut Module {
        &mut self.tree.modules[self.at]
    }

    fn mention(&mut self, line: usize, path: Vec<String>, kind: Kind) {
        self.here().mentions.push(Mention { line, path, kind });
    }

    fn import(&mut self, tree: &UseTree, path: &[String], is_private: bool) {
        let joined = |ident: &Ident| {
            let ident = (ident != "self").then(|| ident.to_string());
            path.iter().cloned().chain(ident).collect::<Vec<_>>()
        };
        match tree {
            UseTree::Path(inner) => {
                let joined: Vec<_> = path.iter().cloned().chain([inner.ident.to_string()]).collect();
                self.import(&inner.tree, &joined, is_private);
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, path, is_private)),
            UseTree::Name(name) => {
                let path = joined(&name.ident);
                self.import_name(path.last().cloned(), &name.ident, path, is_private);
            }
            UseTree::Rename(rename) => {
                let name = (rename.rename != "_").then(|| rename.rename.to_string());
                self.import_name(name, &rename.ident, joined(&rename.ident), is_private);
            }
            UseTree::Glob(glob) => {
                self.here().globs.push(path.to_owned());
                let kind = if is_private { Kind::Glob } else { Kind::Reexport };
                self.mention(glob.star_token.span.start().line, path.to_owned(), kind);
            }
        }
    }

    fn import_name(&mut self, name: Option<String>, at: &Ident, path: Vec<String>, is_private: bool) {
        self.mention(line(at), path.clone(), if is_private { Kind::Import } else { Kind::Reexport });
        if let Some(name) = name {
            self.here().imports.entry(name).or_insert(path);
        }
    }

    /// Finds the paths in a macro's tokens. `prefix` is what stands before a group of `use`.
    fn scan(&mut self, tokens: TokenStream, prefix: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_punct = |at: usize, c: char| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == c);
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.scan(group.stream(), &[]),
                // A field or a method.
                TokenTree::Ident(_) if at > 0 && is_punct(at - 1, '.') => {}
                TokenTree::Ident(first) => {
                    let mut path = prefix.to_vec();
                    path.push(first.to_string());
                    while is_punct(at + 1, ':') && is_punct(at + 2, ':') {
                        match tokens.get(at + 3) {
                            Some(TokenTree::Ident(next)) => path.push(next.to_string()),
                            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                                self.scan(group.stream(), &path);
                                path.clear();
                            }
                            _ => break,
                        }
                        at += 3;
                    }
                    if !path.is_empty() {
                        self.mention(line(first), path, Kind::Code);
                    }
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_test(item_attributes(item)) {
            return;
        }
        if !self.is_in_body
            && let Some(name) = item_name(item)
        {
            self.here().items.insert(name.to_string());
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, declaration: &'ast ItemMod) {
        let name = declaration.ident.to_string();
        let around = &self.tree.modules[self.at];
        let folder = format!("{}/{name}", around.folder);
        let module = Module { file: around.file, parent: Some(self.at), folder: folder.clone(), ..Module::default() };
        let index = self.tree.modules.len();
        if let Some((_, items)) = &declaration.content {
            self.module(module, items);
        } else {
            let path = [format!("{folder}.rs"), format!("{folder}/mod.rs")]
                .into_iter()
                .find(|path| self.sources.contains_key(path))
                .unwrap_or_else(|| format!("{folder}.rs"));
            // One module may be declared for either side of a `cfg`.
            if self.tree.files.contains(&path) {
                return;
            }
            if let Err(error) = self.file(path, module) {
                self.failure.get_or_insert(error);
            }
        }
        // A file that says of itself that it is a test has made no module.
        if index < self.tree.modules.len() {
            self.here().children.insert(name, index);
        }
    }

    fn visit_item_use(&mut self, import: &'ast ItemUse) {
        if import.leading_colon.is_none() {
            self.import(&import.tree, &[], matches!(import.vis, Visibility::Inherited));
        }
    }

    fn visit_item_macro(&mut self, item: &'ast ItemMacro) {
        if let Some(name) = &item.ident {
            self.here().macros.insert(name.to_string());
            if item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export")) {
                // An exported macro is a name of the crate's root, wherever it stands.
                let path = format!("{}/{name}", self.here().folder.replacen("src", "crate", 1));
                let path = path.split('/').map(str::to_owned).collect();
                self.tree.modules[ROOT].imports.insert(name.to_string(), path);
            }
        }
        visit::visit_item_macro(self, item);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        let name = item.ident.to_string();
        self.here().imports.insert(name.clone(), vec![name]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none()
            && let Some(first) = path.segments.first()
        {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.mention(line(&first.ident), segments, Kind::Code);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(name) = call.path.get_ident() {
            self.mention(line(name), vec![name.to_string()], Kind::Macro);
        } else {
            self.visit_path(&call.path);
        }
        self.scan(call.tokens.clone(), &[]);
    }

    fn visit_block(&mut self, block: &'ast Block) {
        let was_in_body = std::mem::replace(&mut self.is_in_body, true);
        visit::visit_block(self, block);
        self.is_in_body = was_in_body;
    }

    // Neither says what the file uses: a derive or a lint, and `pub(in ..)`.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}

    // What is compiled for tests alone is passed over.
    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !is_test(impl_item_attributes(item)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !is_test(trait_item_attributes(item)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_foreign_item(&mut self, item: &'ast ForeignItem) {
        if !is_test(foreign_item_attributes(item)) {
            visit::visit_foreign_item(self, item);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        let attributes = match statement {
            Stmt::Local(local) => &local.attrs,
            Stmt::Macro(call) => &call.attrs,
            Stmt::Expr(expression, _) => expression_attributes(expression),
            Stmt::Item(_) => &[][..],
        };
        if !is_test(attributes) {
            visit::visit_stmt(self, statement);
        }
    }

    fn visit_field(&mut self, field: &'ast Field) {
        if !is_test(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_field_value(&mut self, field: &'ast FieldValue) {
        if !is_test(&field.attrs) {
            visit::visit_field_value(self, field);
        }
    }

    fn visit_variant(&mut self, variant: &'ast Variant) {
        if !is_test(&variant.attrs) {
            visit::visit_variant(self, variant);
        }
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        if !is_test(&arm.attrs) {
            visit::visit_arm(self, arm);
        }
    }
}

fn line(ident: &Ident) -> usize {
    ident.span().start().line
}

/// The lines of a page's documentation, numbered.
fn doc_lines(attributes: &[Attribute]) -> Vec<(usize, String)> {
    let docs = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(value) => match &value.lit {
                Lit::Str(text) => Some((text.span().start().line, text.value())),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    docs.collect()
}

/// Whether what has these attributes is compiled for tests alone.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"))
        .any(|attribute| attribute.parse_args().is_ok_and(|condition| needs_test(&condition)))
}

/// Whether a condition holds in tests alone.
fn needs_test(condition: &Meta) -> bool {
    let Meta::List(list) = condition else { return condition.path().is_ident("test") };
    let Ok(parts) = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) else { return false };
    if list.path.is_ident("all") {
        parts.iter().any(needs_test)
    } else {
        list.path.is_ident("any") && !parts.is_empty() && parts.iter().all(needs_test)
    }
}

fn item_name(item: &Item) -> Option<&Ident> {
    match item {
        Item::Const(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Fn(item) => Some(&item.sig.ident),
        Item::Macro(item) => item.ident.as_ref(),
        Item::Static(item) => Some(&item.ident),
        Item::Struct(item) => Some(&item.ident),
        Item::Trait(item) => Some(&item.ident),
        Item::TraitAlias(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        Item::Union(item) => Some(&item.ident),
        _ => None,
    }
}

/// A function for the attributes of what has them in each of its variants.
macro_rules! attributes {
    ($($function:ident of $node:ident: $($variant:ident)*;)*) => {
        $(
            fn $function(node: &$node) -> &[Attribute] {
                match node {
                    $($node::$variant(inner) => &inner.attrs,)*
                    _ => &[],
                }
            }
        )*
    };
}

attributes! {
    item_attributes of Item: Const Enum ExternCrate Fn ForeignMod Impl Macro Mod Static Struct Trait TraitAlias Type Union Use;
    impl_item_attributes of ImplItem: Const Fn Macro Type;
    trait_item_attributes of TraitItem: Const Fn Macro Type;
    foreign_item_attributes of ForeignItem: Fn Macro Static Type;
    expression_attributes of Expr: Assign Block Call ForLoop If Loop Macro Match MethodCall Return Unsafe While;
}
